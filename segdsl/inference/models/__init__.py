"""The models that inference runs: a torch run, an OpenVINO file or an ONNX file, behind one interface."""
