package demo

import (
	"math/rand/v2"
	"strings"
)

func pick(r *rand.Rand, words []string) string { return words[r.IntN(len(words))] }

var projectNames = []string{
	"Vårdkvalitet", "Äldreomsorg Norr", "Skolstart", "Lokaltrafiken", "Ward interviews", "Night shift study",
	"Sjukresor", "Hemtjänst", "Patientnämnden", "Care pathways", "Barnhälsa", "Medarbetarsamtal",
}

var givenNames = []string{
	"Astrid", "Birger", "Cecilia", "David", "Elsa", "Farid", "Greta", "Håkan", "Ingrid", "Johan", "Karin", "Lars",
	"Maryam", "Nils", "Oskar", "Petra", "Ruth", "Sven", "Tove", "Ulf", "Viola", "Yusuf", "Åsa", "Örjan",
}

var familyNames = []string{
	"Almgren", "Bergkvist", "Carlsund", "Dahlman", "Ekeroth", "Forsell", "Granath", "Hedlund", "Isaksdotter", "Jernberg",
	"Kallin", "Lindroth", "Mohn", "Nyberg", "Oxelgren", "Palmér", "Rask", "Sandahl", "Tegner", "Wikander", "Åkesson", "Östman",
}

var titles = []string{
	"Intervju med {n}", "Samtal {n}, uppföljning", "Anteckning efter besök hos {n}", "Interview with {n}", "Follow-up call, {n}",
	"Dictation: {n}", "Diktat {n}", "Avstämning {n} och handläggare",
}

var sentences = []string{
	"{n} berättar att medicinen byttes i förra veckan och att yrseln har avtagit.",
	"Jag träffade {n} i hemmet; trappan är fortfarande ett problem.",
	"{n} undrar när remissen till kardiologen går iväg.",
	"Vi kom överens om att ringa {n} på torsdag förmiddag.",
	"Dottern säger att {n} inte sover mer än fyra timmar per natt.",
	"Blodtrycket var etthundrafyrtio genom åttiofem, {n} kände sig trött.",
	"{n} vill inte att uppgifterna delas med arbetsgivaren.",
	"Tack, då stänger jag av inspelningen nu, {n}.",
	"{n} says the new dosage works better, but mornings are hard.",
	"I asked {n} about the fall in March; no fracture was found.",
	"{n} would like the letter sent to the other address.",
	"We agreed that {n} stops taking the tablets on Monday.",
	"The ward will call {n} back before the weekend.",
	"{n} has been on sick leave since the accident at the harbour.",
	"Och vid det tillfället var {n} ensam hemma, stämmer det?",
	"Ja, precis, {n} hade med sig kopior av intyget.",
}

func person(r *rand.Rand) string { return pick(r, givenNames) + " " + pick(r, familyNames) }

func title(r *rand.Rand) string { return strings.ReplaceAll(pick(r, titles), "{n}", person(r)) }

func sentence(r *rand.Rand) string { return strings.ReplaceAll(pick(r, sentences), "{n}", person(r)) }
