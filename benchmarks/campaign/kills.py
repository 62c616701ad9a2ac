"""Kills: `twinvae run` and its resumptions end by SIGKILL at random moments."""

from __future__ import annotations

import time

import numpy as np
from room import Command, Room, Tally, counted, next_stage, twinvae, verdict

from twinvae.progress import progress_bar
from twinvae.run import STAGES

KILLS = 100
_IN_A_ROW = 15  # then the run may end
_SHARE = 16  # of a run's time that passes before a kill, on average: one part in so many


def kills(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Kill, resume, kill again; at each chain's end all is as if nothing had happened.

    Chains begin at stages drawn by chance, so that the short ones are hit too.
    """
    done, chain, at = 0, 0, []
    with progress_bar("kills", KILLS) as bar:
        while done < KILLS:
            folder = room.start("killed", str(rng.choice(STAGES)))
            chain += 1
            words = ["run", room.config, "-o", folder]
            for _ in range(min(_IN_A_ROW, KILLS - done)):
                command = Command(words, room.log)
                time.sleep(rng.exponential(room.run_s / _SHARE))
                at.append(next_stage(folder))
                if not command.kill():
                    at.pop()
                    break
                done += 1
                bar.advance()
            kind, what = verdict(twinvae(words, room.log), room.wanted, folder)
            hit = done - tally.tried
            for _ in range(hit - 1):
                tally.add("survived", "")
            if hit:
                tally.add(kind, f"chain {chain}: {what}")
    tally.notes.append(f"{chain} chains; the stage that was hit: {counted(at)}")
