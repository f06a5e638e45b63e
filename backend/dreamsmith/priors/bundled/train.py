# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled prior from nothing: ``python -m dreamsmith.priors.bundled.train``.

It begins at 32x32 pixels, where a step costs a quarter, as Stable Diffusion began at 256x256.
Stopped at any time, the same command goes on from its checkpoint.
"""

from __future__ import annotations

import copy
import fnmatch
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dreamsmith.bars import CountingBars
from dreamsmith.files import write_atomic
from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.model import (
    PROMPT_TOKENS,
    RESOLUTION,
    build_pipeline,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)
from dreamsmith.priors.bundled.rate import share_of_rate
from dreamsmith.priors.bundled.sheet import sample_sheet
from dreamsmith.priors.bundled.words import teach_words
from dreamsmith.state import load_optimizer, pack_optimizer, with_prefix

_WARM_UP_STEPS = 100
_DROPPED_PROMPTS = 0.12
_WEIGHT_DECAY = 0.01
# What Muon is not meant for, or was not tried on: all but the maps between a UNet's features.
_OUTER = (
    "unet.conv_in",
    "unet.conv_out",
    "unet.time_embedding",
    "unet.add_embedding",
)
_EMA_DECAY = 0.999
_DECIDING_LEVEL = 0.7
_LOUD_SHARE = 0.5
# Prompts a step of the text encoder's lesson, which costs a tenth of a step of the UNet.
_WORD_BATCH = 128


class Trainer:
    """Networks, their averages, and the optimisers; everything that a checkpoint holds.

    Args:
        learning_rate: before it decays.
        device: where to train.
        only: patterns, as file names have them, of the names of the UNet's tensors that are
            trained, for instance ``unet.mid_block.*`` or ``*.time_emb_proj.*``; empty for all.
    """

    def __init__(
        self, learning_rate: float, device: torch.device, only: Sequence[str] = ()
    ) -> None:
        self.device = device
        self.tokenizer = build_tokenizer()
        self.networks = nn.ModuleDict(
            {
                "unet": build_unet(),
                "text_encoder": build_text_encoder(len(self.tokenizer)),
            }
        ).to(device)
        self.networks["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The text encoder has its own lesson before (`learn_words`).
        self.networks["text_encoder"].requires_grad_(False)
        if only:
            named = dict(self.networks["unet"].named_parameters(prefix="unet"))
            chosen: set[str] = set()
            for pattern in only:
                meant = fnmatch.filter(named, pattern)
                if not meant:
                    raise typer.BadParameter(
                        f"no tensor of the UNet is called {pattern}; names are as "
                        f"{', '.join(sorted(named)[:: len(named) // 3])}"
                    )
                chosen.update(meant)
            for name, value in named.items():
                value.requires_grad_(name in chosen)
        self.averages = copy.deepcopy(self.networks).requires_grad_(False)
        # A copy for the passes through the UNet, in bfloat16 where the processor multiplies it: it
        # is twice as fast there, and half as fast elsewhere.
        self.dtype = _working_type(device)
        self.working = copy.deepcopy(self.networks["unet"]).to(self.dtype)
        scheduler = build_scheduler()
        self.alphas_cumprod = scheduler.alphas_cumprod.to(device)
        self.learning_rate = learning_rate
        # Muon for the UNet's kernels, AdamW for the rest: from nothing, after equal time, 0.7 of
        # the loss that AdamW alone reaches.
        self.matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        outer = []
        for name, value in self.networks.named_parameters():
            if not value.requires_grad:
                continue
            if value.ndim < 2 or name.startswith(_OUTER):
                outer.append(value)
            else:
                self.matrices.append((value, nn.Parameter(_matrix(value.data))))
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(
                [matrix for _, matrix in self.matrices],
                lr=learning_rate,
                weight_decay=_WEIGHT_DECAY,
                adjust_lr_fn="match_rms_adamw",
            ),
            "adamw": torch.optim.AdamW(
                outer, lr=learning_rate, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY
            ),
        }
        self.step = 0
        self.trained_seconds = 0.0

    def embed(self, text_encoder: Any, prompts: list[str]) -> Tensor:
        """Encode prompts as IFPipeline does, shape (B, 77, 128)."""
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=PROMPT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        embeddings: Tensor = text_encoder(tokens.input_ids, tokens.attention_mask)[0]
        return embeddings

    def learn_words(
        self,
        dataset: PropDataset,
        steps: int,
        batch_size: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> float:
        """Teach a new text encoder, and the UNet's pooling of what it says, what words look like.

        One that was trained before is given up: from what a diffusion loss has made of it, the
        lesson takes several times as long.

        Args:
            dataset: of pictures and their prompts.
            steps: of the lesson.
            batch_size: prompts a step.
            progress: told the steps done and in all.

        Returns:
            As `teach_words` has it.
        """
        text_encoder = build_text_encoder(len(self.tokenizer)).to(self.device)
        pooling = build_unet().add_embedding.to(self.device)
        explained = teach_words(
            lambda prompts: pooling(self.embed(text_encoder, prompts)),
            [*text_encoder.parameters(), *pooling.parameters()],
            dataset,
            steps,
            batch_size,
            progress,
        )
        for networks in (self.networks, self.averages):
            networks["text_encoder"].load_state_dict(text_encoder.state_dict())
            networks["unet"].add_embedding.load_state_dict(pooling.state_dict())  # type: ignore[union-attr]
        return explained

    def train_step(
        self, images: Tensor, prompts: list[str], generator: torch.Generator, loud_share: float
    ) -> float:
        """One step of v-prediction (Salimans and Ho 2022, appendix D).

        Args:
            images: shape (B, K, 3, R, R), in [0, 1]; noise is added to the first of each K, and the
                others make its target less random (`mean_picture`).
            prompts: length B.
            generator: of noise, its levels and the prompts that are dropped.
            loud_share: as `draw_noise_levels` has it.

        Returns:
            The loss.
        """
        unet = self.networks["unet"]
        count = len(images)
        dropped = torch.rand(count, generator=generator) < _DROPPED_PROMPTS
        prompts = ["" if drop else prompt for prompt, drop in zip(prompts, dropped, strict=True)]
        levels = draw_noise_levels(count, generator, loud_share)
        t = (levels * len(self.alphas_cumprod)).long().to(self.device)
        alpha = self.alphas_cumprod[t].sqrt()[:, None, None, None]
        sigma = (1 - self.alphas_cumprod[t]).sqrt()[:, None, None, None]
        references = 2 * images.to(self.device) - 1
        clean = references[:, 0]
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        mean = mean_picture(noisy, references, alpha, sigma)
        with torch.no_grad():
            for low, full in zip(self.working.parameters(), unet.parameters(), strict=True):
                low.copy_(full)
            embeddings = self.embed(self.networks["text_encoder"], prompts)
        passed = self.working(noisy.to(self.dtype), t, embeddings.to(self.dtype))
        output = passed.sample[:, :3].float()
        # The noise that belongs to the mean: alpha^2 / sigma is small where the two differ.
        mean_noise = noise + alpha / sigma * (clean - mean)
        loss = nn.functional.mse_loss(output, alpha * mean_noise - sigma * mean)
        loss.backward()
        for low, full in zip(self.working.parameters(), unet.parameters(), strict=True):
            full.grad = None if low.grad is None else low.grad.float()
            low.grad = None
        nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        for kernel, matrix in self.matrices:
            matrix.grad = _matrix(kernel.grad) if kernel.grad is not None else None
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.networks.zero_grad()
        self.step += 1
        decay = min(_EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, value in zip(
                self.averages.parameters(), self.networks.parameters(), strict=True
            ):
                average.lerp_(value, 1 - decay)
        return float(loss.detach())

    def set_learning_rate(self, total_steps: int, decay_fraction: float) -> None:
        """Set that of the next step, as `share_of_rate` has it."""
        share = share_of_rate(self.step, total_steps, _WARM_UP_STEPS, decay_fraction)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * share

    def save(self, path: Path) -> None:
        """Write a checkpoint: tensors, and the counters in the file's header."""
        tensors = {f"networks.{k}": v for k, v in self.networks.state_dict().items()}
        tensors |= {f"averages.{k}": v for k, v in self.averages.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= {f"{name}.{k}": v for k, v in pack_optimizer(optimizer).items()}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        metadata = {"step": str(self.step), "trained_seconds": str(self.trained_seconds)}
        write_atomic(path, save(_unshared(tensors), metadata))

    def begin_with(self, folder: Path) -> None:
        """Take the weights of a prior that `export` wrote, instead of random ones."""
        for name, module in self.networks.items():
            file = "diffusion_pytorch_model" if name == "unet" else "model"
            tensors = load_file(folder / name / f"{file}.safetensors")
            if name == "text_encoder":
                # The vocabulary may have grown at its end: new words keep their random vectors.
                words = module.state_dict()["shared.weight"].clone()
                words[: len(tensors["shared.weight"])] = tensors["shared.weight"]
                tensors["shared.weight"] = words
            module.load_state_dict(tensors, strict=False)
        self.averages.load_state_dict(self.networks.state_dict())

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            counters = file.metadata()
        self.step = int(counters["step"])
        self.trained_seconds = float(counters["trained_seconds"])
        for name, module in (("networks.", self.networks), ("averages.", self.averages)):
            # T5 ties the embedding of its encoder to the shared one; the file holds it once.
            missing = module.load_state_dict(with_prefix(tensors, name), strict=False)
            if set(missing.missing_keys) - {"text_encoder.encoder.embed_tokens.weight"}:
                raise typer.BadParameter(f"{path} is no checkpoint of this training script")
        for name, optimizer in self.optimizers.items():
            load_optimizer(with_prefix(tensors, f"{name}."), optimizer)


def _matrix(kernel: Tensor) -> Tensor:
    """A kernel as a matrix of one row per output channel; in channels-last, the same storage."""
    return kernel.permute(0, 2, 3, 1).flatten(1) if kernel.ndim == 4 else kernel


def _working_type(device: torch.device) -> torch.dtype:
    """What the UNet's passes are fastest in."""
    if device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False):
        return torch.bfloat16
    return torch.float32


def draw_noise_levels(
    count: int, generator: torch.Generator, loud_share: float = _LOUD_SHARE
) -> Tensor:
    """Noise levels in [0, 1) for a batch, shape (count,); ``loud_share`` of them above 0.7.

    A prop fills a third of the picture in one colour, so that its silhouette is still seen at a
    signal of a hundredth of the noise: what is drawn is decided above `_DECIDING_LEVEL`, where a
    uniform draw would spend but three tenths of the steps (Hoogeboom et al. 2023, "simple
    diffusion", section 3.1, shift the schedule for the same reason).
    """
    # Stratified over the batch: less noise in the loss than independent draws.
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    quiet = strata / max(1 - loud_share, 1e-6)
    loud = 1 - (1 - _DECIDING_LEVEL) * (1 - strata) / max(loud_share, 1e-6)
    return torch.where(strata < 1 - loud_share, quiet, loud).clamp(max=1 - 1e-6)


def mean_picture(noisy: Tensor, references: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a noisy picture shows in the mean, by how likely each of its references explains it.

    The target of Xu, Tong and Jaakkola 2023, "Stable Target Field for Reduced Variance Score
    Estimation in Diffusion Models", equation 7, which has the same mean as the picture itself. At
    loud levels one picture of a mug says next to nothing about where mugs have their handles; the
    mean of several says it at once. They are best of one background, as a background is told from
    another in noise that hides any silhouette, so that one with its own would never be the picture.

    Args:
        noisy: ``alpha x + sigma noise`` of the first reference x, shape (B, 3, R, R).
        references: pictures of the same prompt, shape (B, K, 3, R, R), in [-1, 1].
        alpha: of the signal, shape (B, 1, 1, 1).
        sigma: of the noise, above 0, shape (B, 1, 1, 1).

    Returns:
        Shape (B, 3, R, R).
    """
    misses = (noisy[:, None] - alpha[:, None] * references).square().sum(dim=(2, 3, 4))
    weights = torch.softmax(-misses / (2 * sigma[:, 0, 0].square()), dim=1)
    return torch.einsum("bk,bkchw->bchw", weights, references)


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the second name of T5's tied embedding: safetensors refuses shared memory."""
    return {k: v for k, v in tensors.items() if not k.endswith("encoder.embed_tokens.weight")}


def train(
    output: Annotated[Path, typer.Option(help="Folder for checkpoint, sheets and the result.")],
    start: Annotated[Path | None, typer.Option(help="A prior to begin with.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps in all.")] = 9000,
    coarse_steps: Annotated[int, typer.Option(help="Of these, first steps at 32x32.")] = 4500,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Before the final decay.")] = 2e-3,
    decay_fraction: Annotated[float, typer.Option(help="Share of steps that decay it.")] = 0.4,
    views: Annotated[int, typer.Option(help="Views rendered of each object.")] = 600,
    references: Annotated[
        int, typer.Option(min=1, help="Pictures of a prompt that make its target less random.")
    ] = 8,
    loud_share: Annotated[
        float, typer.Option(min=0, max=1, help="Noise levels above 0.7; the rest are of all.")
    ] = _LOUD_SHARE,
    only: Annotated[
        list[str] | None, typer.Option(help="Tensors to train, as 'unet.mid_block.*'; else all.")
    ] = None,
    word_steps: Annotated[
        int, typer.Option(min=0, help="Steps of a new text encoder's lesson; 0 keeps START's.")
    ] = 1600,
    seed: Annotated[int, typer.Option(help="Seed of pictures, prompts and noise.")] = 0,
    save_minutes: Annotated[float, typer.Option(help="Between checkpoints.")] = 3.0,
    sheet_minutes: Annotated[float, typer.Option(help="Between sample sheets; 0 for none.")] = 15.0,
) -> None:
    """Train the bundled prior from nothing, or go on from the checkpoint in OUTPUT."""
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.safetensors"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console()
    torch.manual_seed(seed)
    trainer = Trainer(learning_rate, device, only or ())
    goes_on = checkpoint.exists()
    if goes_on:
        trainer.load(checkpoint)
        console.print(f"going on from step {trainer.step} of {checkpoint}")
    elif start is not None:
        trainer.begin_with(start)
    with CountingBars(console) as bars:
        dataset = PropDataset(views, seed, bars.counter("rendering views"))
        if not goes_on and word_steps > 0:
            explained = trainer.learn_words(
                dataset,
                word_steps,
                _WORD_BATCH,
                bars.counter("learning words"),
            )
            bars.say(f"words explain {explained:.0%} of how pictures differ")
            trainer.save(checkpoint)
        training = bars.add_task("training", total=steps, completed=trainer.step)
        last_save = last_sheet = last_line = time.monotonic()
        losses: list[float] = []
        while trainer.step < steps:
            started = time.monotonic()
            trainer.set_learning_rate(steps, decay_fraction)
            resolution = RESOLUTION // 2 if trainer.step < coarse_steps else RESOLUTION
            generator = torch.Generator().manual_seed(seed * 1_000_003 + trainer.step)
            batch = dataset.batch(trainer.step, batch_size, resolution, references)
            losses.append(trainer.train_step(batch.images, batch.prompts, generator, loud_share))
            now = time.monotonic()
            trainer.trained_seconds += now - started
            bars.update(training, completed=trainer.step)
            if now - last_line > 30:
                last_line = now
                mean = sum(losses) / len(losses)
                losses.clear()
                bars.say(
                    f"step {trainer.step} of {steps}, {resolution}x{resolution}, loss {mean:.4f}, "
                    f"{trainer.trained_seconds / 60:.0f} minutes trained"
                )
            if now - last_save > 60 * save_minutes or trainer.step == steps:
                last_save = now
                trainer.save(checkpoint)
            is_last = trainer.step == steps
            if is_last or (sheet_minutes > 0 and now - last_sheet > 60 * sheet_minutes):
                last_sheet = now
                pipeline = export(trainer, output / "prior")
                if sheet_minutes > 0:
                    image = sample_sheet(pipeline, resolution, seed=0)
                    image.save(output / f"samples-{trainer.step:06d}.png")


def export(trainer: Trainer, folder: Path) -> Any:
    """Write the averaged networks in half precision as diffusers does; returns them in float32."""
    pipeline = build_pipeline(
        copy.deepcopy(trainer.averages["unet"]).cpu(),
        copy.deepcopy(trainer.averages["text_encoder"]).cpu(),
        trainer.tokenizer,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    return pipeline.to(dtype=torch.float32)


if __name__ == "__main__":
    typer.run(train)
