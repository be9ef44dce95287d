// Threads that share one piece of work, phase by phase: a phase begins when all parts of the one before are done, whoever did them.
//
// A thread that the operating system holds up therefore holds up nobody, unless it has a part in its hands: the others go on, and it catches up later.
#pragma once

typedef struct Member Member;
typedef void (*TeamWork)(void *job, Member *member);

// Runs `work` once on every thread of PyTorch's own OpenMP pool, so that no second pool fights for the cores; on the calling thread alone when the
// amount of work (multiplications, roughly) is too little to wake the others for. `work` goes through at most `num_phases` phases.
void run_team(TeamWork work, void *job, long num_phases, long amount);

// A phase is one loop `while (take(…))`, the same on every thread. True with the next parts [*first, *last) of `count`; when there are none left,
// waits until all of them are done, and returns false. `share` is how many parts are taken at once: about a 16th of all where 0.
int take(Member *member, long count, long share, long *first, long *last);
