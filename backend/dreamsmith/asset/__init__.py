# SPDX-License-Identifier: Apache-2.0
"""The result of a job: mesh and material, files, pictures and checks."""
