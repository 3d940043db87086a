/* The library of origin.c. */
int answer(void) { return 42; }
