/* The network, in a translation unit of its own as in a user's program: its functions stay functions. */
#include NETWORK_HEADER
