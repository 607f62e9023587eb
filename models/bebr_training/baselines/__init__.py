"""Other methods at equal bytes, and the Gaussian rate-distortion bound."""
