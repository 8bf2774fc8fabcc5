"""HSAQ: a mixed-precision quantizer for local models that spends bits where they hurt, and proves it."""
