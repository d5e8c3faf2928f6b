"""Training and decoding beside two PyTorch toolkits; see __main__.py."""
