# SPDX-License-Identifier: Apache-2.0
"""Stage 3: texture atlas and baking."""
