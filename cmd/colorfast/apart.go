package main

import (
	"context"
	"fmt"
	"strings"

	"colorfast/apart"
	"colorfast/vault"
)

// notApart says in one line why a local vault would die with the source, or is lost
// though nothing breaks; "" if it is not known to. It asks nobody but the kernel.
func notApart(ctx context.Context, source, url string) string {
	dir := vault.Folder(url)
	if dir == "" {
		return ""
	}
	p := apart.Prober{Offline: true}
	places := p.Places(ctx, source, dir)
	return apart.Warning(&places[0], &places[1])
}

// warnNotApart warns at every backup.
func (a *app) warnNotApart(ctx context.Context, source, url string) {
	if w := notApart(ctx, source, url); w != "" {
		fmt.Fprintf(a.stderr, "warning: %s; see \"colorfast vault where\"\n", w)
	}
}

// tellWhere says where a new vault lies, if that is on this host.
func (a *app) tellWhere(ctx context.Context, url string) {
	dir := vault.Folder(url)
	if dir == "" {
		return
	}
	p := apart.Prober{Offline: true}
	place := &p.Places(ctx, dir)[0]
	if place.Volatile != "" {
		fmt.Fprintf(a.stderr, "warning: the vault does not last: %s\n", place.Volatile)
	}
	fmt.Fprintf(a.stderr, "it lies on %s; what else lies there dies with it: see \"colorfast vault where PATH\"\n", lies(place))
}

// lies says where a place is: file system, disks and host.
func lies(p *apart.Place) string {
	var out []string
	if len(p.FileSystems) > 0 && p.FileSystems[0].Mount != "" {
		f := p.FileSystems[0]
		out = append(out, fmt.Sprintf("file system %s (%s)", f.Mount, f.Type))
	}
	for i := range p.Disks {
		if d := &p.Disks[i]; d.Detail != "bucket" {
			out = append(out, d.String())
		}
	}
	switch h := &p.Host; {
	case h.Here == apart.Yes && h.Name != "":
		out = append(out, "this host, "+h.Name)
	case h.Here == apart.Yes:
		out = append(out, "this host")
	case h.Service:
		out = append(out, "the service "+h.Name)
	case h.Name != "":
		out = append(out, "host "+h.Name)
	}
	if p.Site.Region != "" {
		out = append(out, fmt.Sprintf("%s %s", p.Site.Provider, p.Site.Region))
	}
	if len(out) == 0 {
		return "a place that is not known"
	}
	return strings.Join(out, ", ")
}
