#ifndef RUN_H
#define RUN_H

#include "exchange.h"

/* How one process runs exchanges: as one of the halves, or as both. */
struct runner {
	struct settings settings;
	bool roles[2];
	int listener, control_listener;
	unsigned number; /* of the exchange in this run */
};

bool run_exchange(struct runner *, const struct exchange *);

#endif
