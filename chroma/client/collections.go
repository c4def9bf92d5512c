package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Database is a database of a tenant.
type Database struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tenant string `json:"tenant"`
}

// Collection is a collection as the server describes it.
type Collection struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	Tenant        string          `json:"tenant"`    // "" from servers that do not say
	Database      string          `json:"database"`  // "" from servers that do not say
	Dimension     int             `json:"dimension"` // 0 before the first record, or not said
	Metadata      Metadata        `json:"metadata"`
	Configuration json.RawMessage `json:"configuration_json"` // as sent; nil before 0.5
}

// NewCollection describes a collection to create. Chroma takes the index's
// settings as Configuration from 1.0 on and as hnsw:… keys of Metadata in every
// version, but not both.
type NewCollection struct {
	Name          string          `json:"name"`
	Configuration json.RawMessage `json:"configuration,omitempty"` // such as {"hnsw":{"space":"ip"}}
	Metadata      Metadata        `json:"metadata,omitempty"`
	GetOrCreate   bool            `json:"get_or_create"` // an existing one is no error
}

// CreateTenant creates a tenant. One that exists is an *Error with status 409,
// or 500 from a Python server.
func (c *Client) CreateTenant(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, c.path("tenants"), map[string]string{"name": name}, nil)
}

// CreateDatabase creates a database in the client's tenant.
func (c *Client) CreateDatabase(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, c.databases(), map[string]string{"name": name}, nil)
}

// Databases lists the databases of the client's tenant. Servers before 0.6.3
// cannot: ErrUnsupported.
func (c *Client) Databases(ctx context.Context) ([]Database, error) {
	var list []Database
	err := c.do(ctx, http.MethodGet, c.databases(), nil, &list)
	if s := Status(err); s == http.StatusNotFound || s == http.StatusMethodNotAllowed {
		return nil, fmt.Errorf("list databases: %w", ErrUnsupported)
	}
	return list, err
}

// databases returns the address of a call about the tenant's databases.
func (c *Client) databases() string {
	if c.version == 2 {
		return c.path("tenants", c.o.Tenant, "databases")
	}
	return c.path("databases") + "?" + url.Values{"tenant": {c.o.Tenant}}.Encode()
}

// Collections lists the client's database. It asks for all at once: the
// server's pages are in the order of random ids and not stable while others
// create collections.
func (c *Client) Collections(ctx context.Context) ([]Collection, error) {
	var list []Collection
	err := c.do(ctx, http.MethodGet, c.collections(), nil, &list)
	return list, err
}

// Collection finds a collection by name.
func (c *Client) Collection(ctx context.Context, name string) (Collection, error) {
	var col Collection
	err := c.do(ctx, http.MethodGet, c.collections(name), nil, &col)
	return col, err
}

// CreateCollection creates a collection. The server chooses its ID.
func (c *Client) CreateCollection(ctx context.Context, n NewCollection) (Collection, error) {
	var col Collection
	err := c.do(ctx, http.MethodPost, c.collections(), n, &col)
	return col, err
}

// DeleteCollection deletes a collection by name, with all records.
func (c *Client) DeleteCollection(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, c.collections(name), nil, nil)
}
