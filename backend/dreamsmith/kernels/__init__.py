# SPDX-License-Identifier: Apache-2.0
"""The hot loops: numba on the CPU, torch everywhere, tinycudann and nvdiffrast where installed."""
