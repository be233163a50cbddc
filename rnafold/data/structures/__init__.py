"""RNA chains of users' structure files, whatever program wrote them; the door of gemmi, which parses them."""
