"""Use a trained run or an exported model: predict, evaluate and benchmark."""
