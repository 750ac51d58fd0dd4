"""What runs on a device: engines, the streaming session and the native core. Never imports torch or onnx."""
