# SPDX-License-Identifier: Apache-2.0
"""Names object and colour of a picture; trained apart from the prior, so that it can judge it.

``python -m dreamsmith.evaluation.classifier --output FILE`` trains it from renderings with a seed
of its own. It never sees a picture that the prior made.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dreamsmith.bars import CountingBars
from dreamsmith.evaluation.renders import augment, plain_renders
from dreamsmith.files import write_atomic
from dreamsmith.priors.bundled.dataset import PropDataset
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS
from dreamsmith.request import CameraRanges

RESOLUTION: Final = 64
WEIGHTS: Final = Path(__file__).parent / "weights" / "classifier.safetensors"
_SEED = 71_993
_HELD_OUT_SEED = 40_127
_CHUNK = 240


class PropClassifier(nn.Module):
    """Seven convolutions, about 310 000 parameters; pictures of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = ((3, 32, 2), (32, 64, 2), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 128, 2))
        for inputs, outputs, stride in widths:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        # Mean and maximum: a handle is small, a colour is everywhere.
        self.object_head = nn.Linear(2 * 128, len(OBJECTS))
        self.color_head = nn.Linear(2 * 128, len(COLORS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of objects (B, 20) and colours (B, 12) of pictures (B, 3, 64, 64) in [0, 1]."""
        features = self.features(2 * images - 1).float()
        pooled = torch.cat((features.mean((2, 3)), features.amax((2, 3))), dim=1)
        return self.object_head(pooled), self.color_head(pooled)

    @torch.no_grad()
    def name(self, images: Tensor) -> list[tuple[str, str]]:
        """Object and main colour of each picture, shape (B, 3, 64, 64) in [0, 1]."""
        objects, colors = (logits.argmax(1).tolist() for logits in self(images))
        object_names, color_names = list(OBJECTS), list(COLORS)
        return [(object_names[o], color_names[c]) for o, c in zip(objects, colors, strict=True)]


def load_classifier(path: Path = WEIGHTS) -> PropClassifier:
    """The trained classifier, ready to judge.

    Raises:
        FileNotFoundError: the file is not there; train one.
        ValueError: it was trained on other words than the vocabulary has now.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: python -m dreamsmith.evaluation.classifier --output {path}"
        )
    with safe_open(path, framework="pt") as file:
        words = (file.metadata() or {}).get("words", "")
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    if words != _words():
        raise ValueError(f"{path} was trained on other words: train it anew")
    classifier = PropClassifier()
    # The counter of seen batches is not kept: nothing reads it.
    classifier.load_state_dict(tensors, strict=False)
    return classifier.eval().requires_grad_(False)


def save_classifier(classifier: PropClassifier, path: Path, **metadata: str) -> None:
    """Write the weights in half precision, with the words that they mean."""
    tensors = {
        name: value.detach().half().contiguous()
        for name, value in classifier.state_dict().items()
        if value.is_floating_point()
    }
    write_atomic(path, save(tensors, {"words": _words(), **metadata}))


def _words() -> str:
    return " ".join((*OBJECTS, *COLORS))


@dataclass(frozen=True)
class Accuracy:
    """Shares named right, in [0, 1].

    Attributes:
        objects: object -> share of its pictures whose object was named right.
        colors: colour -> share of its pictures whose colour was named right.
        both: share of all pictures with object and colour right.
        confusions: what was taken for what, the most frequent first, with counts.
    """

    objects: dict[str, float]
    colors: dict[str, float]
    both: float
    confusions: list[tuple[str, str, int]]

    @property
    def object_share(self) -> float:
        """Over all pictures; each object has as many."""
        return sum(self.objects.values()) / len(self.objects)

    @property
    def color_share(self) -> float:
        """Over all pictures; each colour has as many."""
        return sum(self.colors.values()) / len(self.colors)


def held_out_accuracy(
    classifier: PropClassifier, ranges: CameraRanges, views: int, seed: int = _HELD_OUT_SEED
) -> Accuracy:
    """Judge the judge: ``views`` new plain pictures of every object in every colour."""
    generator = torch.Generator().manual_seed(seed)
    truth = [(name, color) for name in OBJECTS for color in COLORS for _ in range(views)]
    said: list[tuple[str, str]] = []
    for start in range(0, len(truth), _CHUNK):
        names, colors = zip(*truth[start : start + _CHUNK], strict=True)
        said += classifier.name(plain_renders(names, colors, ranges, RESOLUTION, generator))
    return accuracy(truth, said)


def accuracy(truth: list[tuple[str, str]], said: list[tuple[str, str]]) -> Accuracy:
    """Compare what was shown with what was named: (object, colour) of each picture."""
    confusions: dict[tuple[str, str], int] = {}
    for shown, named in zip(truth, said, strict=True):
        for right, given in zip(shown, named, strict=True):
            if right != given:
                confusions[right, given] = confusions.get((right, given), 0) + 1

    def shares(index: int) -> dict[str, float]:
        right: dict[str, list[bool]] = {}
        for shown, named in zip(truth, said, strict=True):
            right.setdefault(shown[index], []).append(shown[index] == named[index])
        return {name: sum(answers) / len(answers) for name, answers in right.items()}

    both = sum(shown == named for shown, named in zip(truth, said, strict=True)) / len(truth)
    ordered = sorted(confusions.items(), key=lambda item: -item[1])
    return Accuracy(shares(0), shares(1), both, [(*pair, number) for pair, number in ordered])


def train(
    output: Annotated[Path, typer.Option(help="File for the weights.")] = WEIGHTS,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 1500,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 128,
    views: Annotated[int, typer.Option(help="Views rendered of each object.")] = 160,
    learning_rate: Annotated[float, typer.Option(help="The highest of the cycle.")] = 4e-3,
    seed: Annotated[int, typer.Option(help="Of pictures and weights.")] = _SEED,
) -> None:
    """Train the classifier from nothing and say how good it is on new renderings."""
    console = Console()
    torch.manual_seed(seed)
    classifier = PropClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    generator = torch.Generator().manual_seed(seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    with CountingBars(console) as bars:
        dataset = PropDataset(views, seed, bars.counter("rendering views"))
        training = bars.add_task("training", total=steps)
        last_line = time.monotonic()
        for step in range(steps):
            batch = dataset.batch(step, batch_size, RESOLUTION)
            images = augment(batch.images[:, 0], generator)
            with torch.autocast("cpu", torch.bfloat16):
                objects, colors = classifier(images)
            loss = loss_of(objects.float(), batch.objects) + loss_of(colors.float(), batch.colors)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bars.update(training, completed=step + 1)
            if time.monotonic() - last_line > 20 or step + 1 == steps:
                last_line = time.monotonic()
                right = (objects.argmax(1) == batch.objects).float().mean()
                colored = (colors.argmax(1) == batch.colors).float().mean()
                bars.say(
                    f"step {step + 1} of {steps}: loss {loss.item():.3f}, of this batch "
                    f"{right:.1%} objects and {colored:.1%} colours"
                )
    found = held_out_accuracy(classifier.eval(), CameraRanges(), views=4)
    save_classifier(classifier, output, seed=str(seed), steps=str(steps))
    console.print(
        f"new plain renderings: object {found.object_share:.2%}, colour {found.color_share:.2%}, "
        f"both {found.both:.2%}"
    )
    for right_word, given, number in found.confusions[:10]:
        console.print(f"  {right_word} taken for {given}: {number}")
    console.print(f"{output} ({output.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    typer.run(train)
