//! How many blocks of a kernel a multiprocessor holds at once.
