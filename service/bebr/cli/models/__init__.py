"""Commands that make and measure models: `models`, `fit`, `train`, `evaluate`."""
