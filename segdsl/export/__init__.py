"""Export of trained models to OpenVINO and ONNX, compared with PyTorch before they are published."""
