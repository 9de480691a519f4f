#ifndef APART_H
#define APART_H

#include <stdnoreturn.h>

void go_apart(void);

#endif
