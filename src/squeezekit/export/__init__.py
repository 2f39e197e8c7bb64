"""Networks in the formats of others."""

from squeezekit.export.onnx import export_onnx

__all__ = ["export_onnx"]
