"""Networks of which each process holds a share: weights, gradients, moments, averages, teachers.

Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
Section 5.3, by PyTorch's `fully_shard`. Only memory is divided: batches, noise and times are those
of any other run, and files hold whole tensors, so that no reader knows of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from gendiff.denoiser import network_of


class Sharded(DDPStrategy):
    """Lightning's strategy for a method whose networks gather weights and reduce gradients.

    bf16 is autocast's, as elsewhere, and not `fully_shard`'s own: that rounds all weights, and so
    the residual stream and embeddings of positions, which are float32 in every other run. Its price
    is that autocast's copies, 2 bytes a weight, are whole on all ranks until the backward pass.
    """

    def model_to_device(self) -> None:
        """Whole networks never come to the device: their shares do, as they are cut."""
        method: Any = self.lightning_module
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        frozen = [network_of(module) for module in method.frozen_roles.values()]
        for network in (*method.networks.values(), *method.averaged.values(), *frozen):
            shard(network, mesh)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Nothing: gradients come averaged, part by part of a batch, as whole ones may not fit."""

    def teardown(self) -> None:
        """Shares stay on the device, where they can be gathered to be saved."""
        assert self.cluster_environment
        assert self.accelerator
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Share out a network, in place: its blocks one by one, then the rest.

    Weights are whole from when their block is called until it has answered, and again in its
    backward pass. So are the rest's, which by default would stay whole until that: averages and
    teachers have none, and an average is updated share by share.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_contiguous():
            module.register_forward_pre_hook(channels_last)
    network.to(memory_format=torch.contiguous_format)  # what fully_shard can cut
    for part in (*reversed([*blocks(network)]), network):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def channels_last(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """The input of a convolution as its weights were laid out, which says how it is computed."""
    return (inputs[0].contiguous(memory_format=torch.channels_last),)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The modules in a network's lists, outer ones first."""
    for module in network.modules():
        for part in module if isinstance(module, nn.ModuleList) else ():
            if not isinstance(part, nn.ModuleList) and any(True for _ in part.parameters()):
                yield part


def gathered(state: Any, keep: bool = True) -> Any:
    """A state dict with its tensors whole; all ranks have to ask.

    Args:
        keep: else what was shared out is None, to spare the memory of ranks that do not write.
    """
    if isinstance(state, DTensor):
        tensor = whole(state)
        return tensor.cpu() if keep else None
    if isinstance(state, dict):
        return {name: gathered(value, keep) for name, value in state.items()}
    return [gathered(value, keep) for value in state] if isinstance(state, list) else state


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each rank has a share, on all; all ranks have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def mine(tensor: Tensor) -> Tensor:
    """This rank's share of a tensor, or the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def restore(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state, of whole tensors, laid out as its parameters are.

    Those may be shares, or channels last where the state comes from shares: fused kernels go by
    the order in memory.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        i: {name: like(parameters[i], value) for name, value in values.items()}
        for i, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def like(parameter: Tensor, value: Any) -> Any:
    """A whole tensor as a parameter of its shape is laid out; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    if isinstance(parameter, DTensor):  # every rank has read the file: nothing is sent
        there, mesh = value.to(parameter.device), parameter.device_mesh
        value = distribute_tensor(there, mesh, parameter.placements, src_data_rank=None)
    return torch.empty_like(parameter).copy_(value)
