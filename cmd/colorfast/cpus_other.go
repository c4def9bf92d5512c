//go:build !linux

package main

// confine is for Linux; elsewhere GOMAXPROCS has to do.
func confine(int) error { return nil }
