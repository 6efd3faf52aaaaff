#include "deeper.h" /* beside this file, as C has it */
#define ITEST_DEEP 0
