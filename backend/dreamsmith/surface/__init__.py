# SPDX-License-Identifier: Apache-2.0
"""Stage 2: tetrahedral grid, marching tetrahedra, regularisers, rendering of surfaces."""
