#ifndef HULL_CLINUX_H
#define HULL_CLINUX_H
#endif
