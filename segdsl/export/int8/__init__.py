"""INT8 quantization after training, in a worker process."""
