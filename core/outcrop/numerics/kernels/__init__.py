"""Kernel matrices of a group of samples: their products, centring, HSIC and principal components."""
