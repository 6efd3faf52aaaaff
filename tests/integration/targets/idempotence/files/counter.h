/* What travels beside the source. */
#define FIRST 0
