"""ONNX graphs.

graph            collects nodes and constants; writes a graph
providers        the processor, or an accelerator
session          opens a graph in ONNX Runtime, and holds it to the names, types and shapes that a bundle states
"""
