"""How much memory sampling takes at its peak."""

from __future__ import annotations

from pathlib import Path

import torch

RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Memory:
    """Peak memory between `reset` and `look`, in MB (10^6 bytes).

    On CUDA what PyTorch has allocated on the device; on a CPU the resident size of the whole
    process, where Linux tells it.

    Attributes:
        peak_mb: the highest seen; None where it cannot be known.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak_mb: float | None = None
        self.reset()

    def reset(self) -> None:
        """Begin to watch."""
        self.watching = True
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            try:
                RESET.write_text("5")  # the peak starts anew at the present size
            except OSError:
                self.watching = False

    def look(self) -> None:
        """Take note of the peak so far."""
        if not self.watching:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # sampling is over, for a clock read after this
            peak = torch.cuda.max_memory_allocated(self.device) / 1e6
        else:
            lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
            peak = int(lines["VmHWM"].split()[0]) * 1024 / 1e6
        self.peak_mb = round(max(peak, self.peak_mb or 0.0), 1)
