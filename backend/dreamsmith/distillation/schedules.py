# SPDX-License-Identifier: Apache-2.0
"""From which noise levels a stage draws, uniformly; t in [0, 1]."""

from __future__ import annotations

# DreamFusion, section 3. The whole of the field stage: at low noise a guidance direction says
# little but "more of that colour", which filled a half-formed field's bounds with it when, as
# ProlificDreamer (section 5) does with a prior for latents, the levels fell after a fifth.
ALL_NOISE = (0.02, 0.98)
# ProlificDreamer, section 5: what is left once the coarse shape is decided.
LOW_NOISE = (0.02, 0.50)
