"""The numbers that Aji & Heafield (2019) print; nothing here is ours.

Alham Fikri Aji and Kenneth Heafield. Making Asynchronous Stochastic Gradient
Descent Work for Transformers. WNGT 2019, pages 80-89, doi 10.18653/v1/D19-5608.
"""

# Table 3, "speed (wps)": target words a second, by model, in the order
# asynchronous; with 4x local accumulation; synchronous.
WORDS_PER_SECOND = {
  'transformer': (39883.0, 45177.0, 36029.0),
  'rnn': (24683.0, 27090.0, 23054.0),
}
