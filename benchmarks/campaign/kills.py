"""Kills: `twinvae run` and its resumptions end by SIGKILL at random moments."""

from __future__ import annotations

import time

import numpy as np
from room import Command, Room, Tally, counted, next_stage, twinvae, verdict

from twinvae.progress import progress_bar
from twinvae.runs.folder import STAGES

KILLS = 100
_AT_A_STAGE = 3  # at most, in each chain


def kills(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Kill, resume, kill again; at each chain's end all is as if nothing had happened.

    Within a chain each stage is met in turn, up to three times in a row, after a share of its time
    drawn by chance; if it is done sooner, the kill meets the next.
    """
    done, chain, at = 0, 0, []
    with progress_bar("kills", KILLS) as bar:
        while done < KILLS:
            folder, before = room.new("killed"), done
            chain += 1
            words = ["run", room.config, "-o", folder]
            for stage in STAGES:
                for _ in range(min(int(rng.integers(1, _AT_A_STAGE + 1)), KILLS - done)):
                    command = Command(words, room.log)
                    time.sleep(rng.uniform(0, room.took[stage]))
                    hit = next_stage(folder)
                    if command.kill():
                        at.append(hit)
                        done += 1
                        bar.advance()
                twinvae([*words, "--until", stage], room.log)
            kind, what = verdict(twinvae(words, room.log), room.wanted, folder)
            for _ in range(done - before - 1):
                tally.add("survived", "")
            if done > before:
                tally.add(kind, f"chain {chain}: {what}")
    tally.notes.append(f"{chain} chains; the stage that was hit: {counted(at)}")
