/* hub.h - what stands in for the coordinator in a simulated fleet: takes devices in under their
 * names as ids, keeps the heartbeats, serves the table and the blobs.  Its ctx is a struct sim. */
#pragma once
#include "net/server.h"

const struct net_route *hub_routes(int *count);
