"""Inception Score, Frechet and kernel distance and R-precision, for any folder of pictures."""
