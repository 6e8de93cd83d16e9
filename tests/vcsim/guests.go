// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"log"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const guestinfo = "guestinfo."

// guests is the side door of the machines: what VMware's tools reach from within, and what happens to a machine behind
// the back of the API's clients.
type guests struct {
	model *simulator.Model
	// stores are the directories that datastores are, by their numbers.
	stores map[string]string

	mu      sync.Mutex
	changed *sync.Cond
	counter int64
	known   map[string]*guest
}

// guest is what is known of one machine. Seq is when that changed last.
type guest struct {
	Machine string            `json:"machine"`
	Source  string            `json:"source"`
	Power   string            `json:"power"`
	Frozen  bool              `json:"frozen"`
	Boots   int               `json:"boots"`
	Gone    bool              `json:"gone"`
	Info    map[string]string `json:"info"`
	Disks   map[string]string `json:"disks"`
	seq     int64
	ran     bool
}

func newGuests(model *simulator.Model) *guests {
	g := &guests{model: model, known: map[string]*guest{}, stores: map[string]string{}}
	for _, entity := range model.Map().All("Datastore") {
		store := entity.(*simulator.Datastore)
		g.stores[store.Self.Value] = store.Summary.Url
	}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// Reference makes this a listener of the registry.
func (g *guests) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "StockyardGuests", Value: "guests"}
}

// PutObject takes note of a new machine.
func (g *guests) PutObject(_ *simulator.Context, item mo.Reference) {
	if vm, ok := item.(*simulator.VirtualMachine); ok {
		g.take(&vm.VirtualMachine, false)
	}
}

// UpdateObject takes note of what a guest sees of a change. The machine is locked by whoever changes it.
func (g *guests) UpdateObject(_ *simulator.Context, item mo.Reference, changes []types.PropertyChange) {
	vm, ok := item.(*mo.VirtualMachine)
	if !ok {
		return
	}
	for _, change := range changes {
		plugged := change.Name == "config.hardware.device" && g.plugged(vm)
		if plugged || strings.HasPrefix(change.Name, "config.extraConfig") || strings.HasPrefix(change.Name, "runtime.") {
			g.take(vm, true)
			return
		}
	}
}

// take reads a machine; with again only one that is known, not one that is being taken apart.
func (g *guests) take(vm *mo.VirtualMachine, again bool) {
	disks := g.disks(vm)
	g.note(vm.Self, func(known *guest) {
		// A new machine gets its name first, and its options last.
		if source, isClone := simulator.CloneSource(vm.Name); isClone {
			known.Source = source.Value
		}
		if !again || known.Power != "" {
			known.take(vm)
			known.Disks = disks
		}
	})
}

// plugged says whether other volumes are in a machine than its guest knows of.
func (g *guests) plugged(vm *mo.VirtualMachine) bool {
	disks := g.disks(vm)
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.known[vm.Self.Value]
	return ok && !maps.Equal(known.Disks, disks)
}

// disks are the files of a machine's volumes, by their uuids.
func (g *guests) disks(vm *mo.VirtualMachine) map[string]string {
	found := map[string]string{}
	if vm.Config == nil {
		return found
	}
	for _, device := range vm.Config.Hardware.Device {
		backing, ok := device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || backing.DiskMode != string(types.VirtualDiskModeIndependent_persistent) || backing.Datastore == nil {
			continue
		}
		_, file, _ := strings.Cut(backing.FileName, "] ")
		flat := simulator.VirtualDiskBackingFileName(file)
		found[backing.Uuid] = path.Join(g.stores[backing.Datastore.Value], flat)
	}
	return found
}

// RemoveObject takes note that a machine is gone.
func (g *guests) RemoveObject(_ *simulator.Context, item types.ManagedObjectReference) {
	if item.Type == "VirtualMachine" {
		g.note(item, func(known *guest) { known.Gone, known.Info = true, map[string]string{} })
	}
}

func (g *guests) note(ref types.ManagedObjectReference, change func(*guest)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known, ok := g.known[ref.Value]
	if !ok {
		known = &guest{Machine: ref.Value}
		g.known[ref.Value] = known
	}
	change(known)
	g.counter++
	known.seq = g.counter
	g.changed.Broadcast()
}

// take reads a machine. From off to on is a boot, unless it was suspended, or is a clone that was never on: these go on.
func (k *guest) take(vm *mo.VirtualMachine) {
	power := string(vm.Runtime.PowerState)
	if power == string(types.VirtualMachinePowerStatePoweredOn) {
		if k.Power == string(types.VirtualMachinePowerStatePoweredOff) && (k.ran || k.Source == "") {
			k.Boots++
		}
		k.ran = true
	}
	k.Power = power
	k.Frozen = vm.Runtime.InstantCloneFrozen != nil && *vm.Runtime.InstantCloneFrozen
	k.Info = map[string]string{}
	if vm.Config == nil {
		return
	}
	for _, option := range vm.Config.ExtraConfig {
		if option == nil {
			continue
		}
		value := option.GetOptionValue()
		if name, ok := strings.CutPrefix(value.Key, guestinfo); ok {
			k.Info[name], _ = value.Value.(string)
		}
	}
}

// serveWait answers with all machines that changed since a number, and waits a while when there are none.
func (g *guests) serveWait(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	seconds, _ := strconv.ParseFloat(r.URL.Query().Get("timeout"), 64)
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	timer := time.AfterFunc(time.Until(end), g.changed.Broadcast)
	defer timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.counter <= since && time.Now().Before(end) {
		g.changed.Wait()
	}
	found := []*guest{}
	for name, known := range g.known {
		if known.seq > since {
			found = append(found, known)
			if known.Gone {
				defer delete(g.known, name)
			}
		}
	}
	reply(w, map[string]any{"seq": g.counter, "guests": found})
}

// serveSet does what guests ask of their machines: to write guestinfo, or to be frozen.
func (g *guests) serveSet(w http.ResponseWriter, r *http.Request) {
	var wanted []struct {
		Machine string            `json:"machine"`
		Info    map[string]string `json:"info"`
		Freeze  bool              `json:"freeze"`
	}
	if !read(w, r, &wanted) {
		return
	}
	for _, one := range wanted {
		g.change(one.Machine, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
			if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
				return // a guest that does not run writes nothing
			}
			changes := []types.PropertyChange{{Name: "config.extraConfig", Val: written(vm, one.Info)}}
			if one.Freeze {
				frozen := types.PropertyChange{Name: "runtime.instantCloneFrozen", Val: true}
				changes = append(changes, frozen)
			}
			ctx.Update(vm, changes)
		})
	}
	reply(w, nil)
}

// written gives a machine's options with some of guestinfo set.
func written(vm *simulator.VirtualMachine, info map[string]string) []types.BaseOptionValue {
	var options []types.BaseOptionValue
	for _, option := range vm.Config.ExtraConfig {
		name, ours := strings.CutPrefix(option.GetOptionValue().Key, guestinfo)
		if _, again := info[name]; !ours || !again {
			options = append(options, option)
		}
	}
	for name, value := range info {
		options = append(options, &types.OptionValue{Key: guestinfo + name, Value: value})
	}
	return options
}

// servePower turns a machine off, or suspends it, behind the back of everybody.
func (g *guests) servePower(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Machine string `json:"machine"`
		State   string `json:"state"`
	}
	if !read(w, r, &wanted) {
		return
	}
	g.change(wanted.Machine, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		state := types.VirtualMachinePowerState(wanted.State)
		ctx.Update(vm, []types.PropertyChange{
			{Name: "runtime.powerState", Val: state}, {Name: "summary.runtime.powerState", Val: state},
		})
	})
	reply(w, nil)
}

// serveClones makes many clones of one machine, each with a name, a BIOS UUID and one option.
func (g *guests) serveClones(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Source string              `json:"source"`
		Clones []map[string]string `json:"clones"`
	}
	if !read(w, r, &wanted) {
		return
	}
	var fault types.BaseMethodFault
	for _, one := range wanted.Clones {
		g.change(wanted.Source, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
			option := &types.OptionValue{Key: one["key"], Value: one["value"]}
			spec := &types.VirtualMachineInstantCloneSpec{
				Name: one["name"], BiosUuid: one["uuid"], Config: []types.BaseOptionValue{option},
			}
			if problem := vm.InstantClone(ctx, spec); problem != nil {
				fault = problem
			}
		})
	}
	if fault != nil {
		http.Error(w, fmt.Sprintf("%T", fault), http.StatusConflict)
		return
	}
	reply(w, len(wanted.Clones))
}

func (g *guests) change(machine string, act func(*simulator.Context, *simulator.VirtualMachine)) {
	registry := g.model.Map()
	own := *g.model.Service.Context // a context is who holds a lock
	ctx := &own
	ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: machine}
	// A panic would leave the machine locked, and its clients waiting for ever.
	defer func() {
		if problem := recover(); problem != nil {
			log.Fatalf("%s: %v\n%s", machine, problem, debug.Stack())
		}
	}()
	if vm, ok := registry.Get(ref).(*simulator.VirtualMachine); ok {
		ctx.WithLock(vm, func() { act(ctx, vm) })
	}
}
