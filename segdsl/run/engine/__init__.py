"""What a training step needs: loss, optimizer, precision, state and device."""
