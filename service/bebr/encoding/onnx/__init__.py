"""ONNX graphs: how they are built and opened."""
