# SPDX-License-Identifier: Apache-2.0
"""The server: jobs that survive it, one worker process per attempt, numbered events over gRPC."""
