"""The series of the machine: its GPUs, its pressure, the room for epad's state, epad's own loop."""

from __future__ import annotations

from epad.metrics.family import gauge

GPU_INFO = gauge("epad_gpu_info", "Always 1; what card it is.", "gpu", "uuid", "vendor", "name")
GPU_READ = gauge("epad_gpu_last_read_timestamp_seconds", "When the card could last be read.", "gpu")
GPU_USED = gauge("epad_gpu_memory_used_bytes", "VRAM in use.", "gpu")
GPU_TOTAL = gauge("epad_gpu_memory_total_bytes", "VRAM of the card.", "gpu")
GPU_RESERVED = gauge("epad_gpu_memory_reserved_bytes", "VRAM that the driver keeps for itself.", "gpu")
GPU_UNATTRIBUTED = gauge("epad_gpu_unattributed_memory_bytes", "VRAM in use that no process owns to.", "gpu")
GPU_SUBSYSTEM = gauge(
    "epad_gpu_subsystem_memory_bytes", "VRAM that a subsystem's processes hold.", "gpu", "subsystem"
)
GPU_EXHAUSTION = gauge(
    "epad_gpu_memory_exhaustion_seconds", "Time until no VRAM is left, while it grows steadily.", "gpu"
)
GPU_XID = gauge(
    "epad_gpu_xid_last_timestamp_seconds", "When the driver last reported this error.", "gpu", "xid"
)
PRESSURE = gauge(
    "epad_host_pressure_ratio", "PSI: the share of the last 10 s lost to waiting.", "resource", "kind"
)
DISK_FREE = gauge("epad_state_filesystem_free_bytes", "Room on the state directory's file system.")
DISK_SIZE = gauge("epad_state_filesystem_size_bytes", "Size of that file system.")
INODES_FREE = gauge("epad_state_filesystem_free_inodes", "Inodes left on it.")
LOOP_LAG = gauge("epad_loop_lag_seconds", "How late the event loop was at worst lately.")
