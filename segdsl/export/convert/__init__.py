"""From a trained model to a model file: deployable graph, rewrites and the ONNX writer."""
