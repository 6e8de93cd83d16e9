// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// control is what tests do to the simulator beside its API: a small HTTP service, JSON in and out.
type control struct {
	model        *simulator.Model
	instantClone bool
	guests       *guests
	disks        *disks

	mu       sync.Mutex
	log      []entry
	sessions map[string]bool
	rules    []*rule
	denied   map[string]bool
	uuids    map[string]string
	clones   map[*simulator.Context]*types.VirtualMachineConfigSpec
	guards   map[*simulator.Context]*guard
}

// entry is one call of the API.
type entry struct {
	Method  string  `json:"method"`
	Type    string  `json:"type"`
	Object  string  `json:"object"`
	Session string  `json:"session"`
	At      float64 `json:"at"`
}

func newControl(model *simulator.Model, instantClone bool) *control {
	c := &control{model: model, instantClone: instantClone, denied: map[string]bool{}, uuids: map[string]string{}}
	c.clones = map[*simulator.Context]*types.VirtualMachineConfigSpec{}
	c.guards, c.sessions = map[*simulator.Context]*guard{}, map[string]bool{}
	c.guests, c.disks = newGuests(model), newDisks(model)
	registry := model.Map()
	for _, entity := range registry.All("VirtualMachine") {
		fillRuntime(entity)
		c.guests.PutObject(nil, entity)
		c.disks.learn(&entity.(*simulator.VirtualMachine).VirtualMachine)
	}
	registry.Handler = c.handle
	registry.AddHandler(c)
	registry.AddHandler(c.guests)
	return c
}

// listen serves on a port of its own on the loopback interface.
func (c *control) listen() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /log", c.serveLog)
	mux.HandleFunc("POST /reset", c.serveReset)
	mux.HandleFunc("POST /rule", c.serveRule)
	mux.HandleFunc("POST /deny", c.serveDeny)
	mux.HandleFunc("POST /sessions/drop", c.serveDrop)
	mux.HandleFunc("POST /datastore", c.serveDatastore)
	mux.HandleFunc("POST /power", c.guests.servePower)
	mux.HandleFunc("POST /clones", c.guests.serveClones)
	mux.HandleFunc("GET /guests", c.guests.serveWait)
	mux.HandleFunc("POST /guests", c.guests.serveSet)
	go func() { _ = http.Serve(listener, mux) }()
	return listener.Addr().String(), nil
}

// handle sees every call before it is carried out.
func (c *control) handle(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	call := entry{Method: method.Name, Type: method.This.Type, Object: method.This.Value}
	call.At = float64(time.Now().UnixMicro()) / 1e6
	if ctx.Session != nil {
		call.Session = ctx.Session.Key
	}
	c.mu.Lock()
	c.log = append(c.log, call)
	c.sessions[call.Session] = true
	c.mu.Unlock()
	if rule := c.match(method.Name, "call"); rule != nil {
		time.Sleep(time.Duration(rule.Delay * float64(time.Second)))
		if rule.Fault == "NotAuthenticated" && ctx.Session != nil {
			c.drop([]string{ctx.Session.Key})
		}
		if fault := rule.fault(); fault != nil {
			return nil, fault
		}
	}
	if !c.instantClone && (method.Name == "InstantClone_Task" || method.Name == "CheckInstantClone_Task") {
		return nil, &types.MethodNotFound{Receiver: method.This, Method: method.Name}
	}
	c.watch(ctx, method)
	return nil, nil
}

// Reference makes this a listener of the registry.
func (c *control) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "StockyardControl", Value: "control"}
}

// PutObject mends what the simulator leaves empty, and lets tasks fail that are to fail.
func (c *control) PutObject(_ *simulator.Context, item mo.Reference) {
	switch it := item.(type) {
	case *simulator.VirtualMachine:
		fillRuntime(it)
	case *simulator.Task:
		c.release(it)
		c.complete(it)
		c.disks.spare(it)
		c.sabotage(it)
	}
}

// UpdateObject takes note of the disks of a machine, which is locked by whoever changes it.
func (c *control) UpdateObject(_ *simulator.Context, item mo.Reference, _ []types.PropertyChange) {
	if vm, ok := item.(*mo.VirtualMachine); ok {
		c.disks.learn(vm)
	}
}

// RemoveObject is of no interest here.
func (c *control) RemoveObject(*simulator.Context, types.ManagedObjectReference) {}

// fillRuntime sets what a client cannot read when it is empty: an enumeration has no empty value.
func fillRuntime(item mo.Reference) {
	if vm, ok := item.(*simulator.VirtualMachine); ok {
		for _, runtime := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} {
			runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
			runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
		}
	}
}

// drop ends sessions, as a vCenter does that restarts.
func (c *control) drop(keys []string) {
	manager := c.model.Map().SessionManager()
	nobody := &simulator.Context{Context: context.Background(), Map: c.model.Map(), Session: &simulator.Session{}}
	for _, key := range keys {
		manager.TerminateSession(nobody, &types.TerminateSession{SessionId: []string{key}})
	}
}

func (c *control) serveLog(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reply(w, c.log)
}

func (c *control) serveReset(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log, c.rules, c.denied = nil, nil, map[string]bool{}
	reply(w, nil)
}

func (c *control) serveRule(w http.ResponseWriter, r *http.Request) {
	rule := &rule{Times: 1}
	if !read(w, r, rule) {
		return
	}
	if err := rule.check(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rules = append(c.rules, rule)
	reply(w, nil)
}

func (c *control) serveDeny(w http.ResponseWriter, r *http.Request) {
	var privileges []string
	if !read(w, r, &privileges) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, privilege := range privileges {
		c.denied[privilege] = true
	}
	reply(w, nil)
}

func (c *control) serveDrop(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	keys := slices.Collect(maps.Keys(c.sessions))
	c.sessions = map[string]bool{}
	c.mu.Unlock()
	c.drop(keys)
	reply(w, len(keys))
}

// serveDatastore sets the free space of a datastore.
func (c *control) serveDatastore(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Name string `json:"name"`
		Free int64  `json:"free"`
	}
	if !read(w, r, &wanted) {
		return
	}
	registry := c.model.Map()
	ctx := &simulator.Context{Context: context.Background(), Map: registry}
	for _, entity := range registry.All("Datastore") {
		if store := entity.(*simulator.Datastore); store.Name == wanted.Name {
			ctx.WithLock(store, func() {
				store.Info.GetDatastoreInfo().FreeSpace = wanted.Free
				ctx.Update(store, []types.PropertyChange{{Name: "summary.freeSpace", Val: wanted.Free}})
			})
		}
	}
	reply(w, nil)
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func reply(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	if value := reflect.ValueOf(what); value.Kind() == reflect.Slice && value.IsNil() {
		what = []int{}
	}
	_ = json.NewEncoder(w).Encode(what)
}
