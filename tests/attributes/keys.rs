//! Calls share an entry where their arguments are equal, and nowhere else.
