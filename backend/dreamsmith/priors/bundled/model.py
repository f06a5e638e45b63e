# SPDX-License-Identifier: Apache-2.0
"""The networks of the bundled prior: the layout of DeepFloyd IF's first stage, made small.

Pixel space, because a gradient that must pass through a small autoencoder is useless on a
half-formed field.
"""

from __future__ import annotations

from typing import Any

from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from dreamsmith.priors.bundled.vocabulary import WORDS

RESOLUTION = 64
# The length to which IFPipeline pads every prompt.
PROMPT_TOKENS = 77
_WIDTH = 128


def build_tokenizer() -> Any:
    """One token a word of the vocabulary; any other word is ``<unk>``."""
    special = ("<pad>", "</s>", "<unk>")
    words = {word: index for index, word in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", words["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        model_max_length=PROMPT_TOKENS,
    )


def build_text_encoder(vocabulary_size: int) -> Any:
    """A two-layer T5 encoder, to be trained with the UNet."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size,
            d_model=_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """A UNet on 64x64 pixels; of its six output channels, as IF has, the last three are unused."""
    return UNet2DConditionModel(
        sample_size=RESOLUTION,
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        down_block_types=(
            "DownBlock2D",
            "DownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=_WIDTH,
        # diffusers takes this as the number of heads.
        attention_head_dim=2,
        norm_num_groups=8,
        # As in IF: the text, pooled, reaches every block with the time. Without it the words for
        # shapes were learned many times more slowly than those for colours.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_scheduler() -> DDPMScheduler:
    """Cosine noise levels (Nichol and Dhariwal 2021), v-prediction (Salimans and Ho 2022)."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=True,
    )


def build_pipeline(unet: Any, text_encoder: Any, tokenizer: Any) -> IFPipeline:
    """The whole as diffusers knows it; ``save_pretrained`` writes the standard layout."""
    return IFPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
