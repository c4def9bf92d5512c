package sysdb

// FreeLeavesBy is FreeLeaves with a window of so many pages.
var FreeLeavesBy = freeLeaves
