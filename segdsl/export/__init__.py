"""What leaves segdsl: the OpenVINO model, and evaluation, prediction and measurement of runs and models."""
