# SPDX-License-Identifier: Apache-2.0
"""Stage 1: a radiance field on a hash grid, and its volume rendering."""
