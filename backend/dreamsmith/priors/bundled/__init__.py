# SPDX-License-Identifier: Apache-2.0
"""The small diffusion model of simple props that the package ships, and all that made it."""
