"""ONNX files of other projects become the graph of a bundle, after they have been checked and tried.

ready          a folder with a ready graph -> an embedding model
choice         which of its ONNX files
reading        the file with all its weights; nothing outside the folder is read
operators      the operators that a graph may use
interface      what its inputs and outputs mean
layers         leaves out the last layers
assemble       puts bebr's inputs before it, and pooling and unit length behind it
proof          runs it once, to see whether its embeddings are finite and do not depend on the batch
"""
