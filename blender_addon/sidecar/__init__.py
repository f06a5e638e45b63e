# SPDX-License-Identifier: GPL-3.0-or-later
"""The program beside Blender that speaks gRPC; started as a process of its own by ``link``."""
