"""What runs in each side's own environment.

JoeyNMT's and eole's have neither JAX nor this project's other requirements: a
file here imports, outside its functions, nothing but the standard library, its
own toolkit and other files here.
"""
